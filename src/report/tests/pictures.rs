use super::markup::check;
