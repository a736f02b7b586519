//! The operations, one file each, and their registry.
//!
//! A file holds all of its operation: the struct of inputs and settings, the [`Graph`](super::Graph) method that records it
//! and checks shapes, what a plan must know (what is saved, what the backward rule reads, cost), the forward rule, how it is
//! cut for several threads, and the backward rule. To add one, write its file and name it here, twice: CONTRIBUTING.md goes
//! through it in ten steps, with `rms_norm` as the example.

use super::operation::Op;

mod absorbed_attention;
mod activate;
mod add;
mod add_rows;
mod attention;
mod bce_logits;
mod conv1d;
mod cross_entropy;
mod custom;
mod dropout;
mod feed_forward;
mod gather_rows;
mod index;
mod input;
mod layer_norm;
mod linear;
mod masked_mse;
mod mul;
mod param;
mod pool;
mod prepend_row;
mod reduce;
mod reshape;
mod rms_norm;
mod scale;
mod sinusoid;
mod softmax;

pub use attention::AttentionSpec;
pub use conv1d::Conv1dSpec;
pub use custom::{Custom, CustomOp};
pub use feed_forward::FeedForwardParams;

macro_rules! registry {
    (leaves { $($leaf:ident::$Leaf:ident,)* } computed { $($file:ident::$Name:ident,)* }) => {
        $(pub use $leaf::$Leaf;)*
        $(pub use $file::$Name;)*

        /// The kinds of operations, for tests and tables that must name every one.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
        #[allow(missing_docs, reason = "each names the struct of the same name, which documents it")]
        pub enum OpKind {
            $($Leaf,)*
            $($Name,)*
            Custom,
        }

        impl OpKind {
            /// Every kind.
            pub const ALL: &[OpKind] = &[$(OpKind::$Leaf,)* $(OpKind::$Name,)* OpKind::Custom];

            /// Comes from outside or is constant: computes nothing and has no backward pass.
            pub fn is_leaf(self) -> bool {
                [$(OpKind::$Leaf,)*].contains(&self)
            }

            /// The name in traces and messages, and of the operation's file.
            pub fn name(self) -> &'static str {
                match self {
                    $(OpKind::$Leaf => stringify!($leaf),)*
                    $(OpKind::$Name => stringify!($file),)*
                    OpKind::Custom => "custom",
                }
            }

            /// Of an operation of a program.
            fn of(op: &Op) -> OpKind {
                $(if op.is::<$Leaf>() {
                    return OpKind::$Leaf;
                })*
                $(if op.is::<$Name>() {
                    return OpKind::$Name;
                })*
                OpKind::Custom
            }
        }
    };
}

registry! {
    leaves {
        input::Input,
        index::Index,
        param::Param,
        sinusoid::Sinusoid,
    }
    computed {
        linear::Linear,
        conv1d::Conv1d,
        layer_norm::LayerNorm,
        softmax::Softmax,
        attention::Attention,
        absorbed_attention::AbsorbedAttention,
        feed_forward::FeedForward,
        activate::Activate,
        dropout::Dropout,
        add::Add,
        mul::Mul,
        scale::Scale,
        add_rows::AddRows,
        prepend_row::PrependRow,
        gather_rows::GatherRows,
        pool::Pool,
        reshape::Reshape,
        masked_mse::MaskedMse,
        bce_logits::BceLogits,
        cross_entropy::CrossEntropy,
        reduce::Reduce,
        rms_norm::RmsNorm,
    }
}

impl Op {
    /// Which kind it is.
    pub fn kind(&self) -> OpKind {
        OpKind::of(self)
    }
}
