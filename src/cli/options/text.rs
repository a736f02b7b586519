//! Flags that say how a text table is written, where that is not to be found out from the file.

use crate::data::readers::text::{Decimal, Delimiter, Encoding, TextOptions, TimeUnit};

/// Flags of text tables.
#[derive(Clone, Debug, Default, clap::Args)]
#[command(
    next_help_heading = "Text tables (found out from the file unless given; `heartlore inspect` shows how)"
)]
pub struct TextArgs {
    /// What stands between fields: comma, semicolon, tab, pipe, blanks or none
    #[arg(long, value_name = "WHAT", value_parser = parse::<Delimiter>)]
    pub delimiter: Option<Delimiter>,
    /// Decimal mark: point or comma
    #[arg(long, value_name = "MARK", value_parser = parse::<Decimal>)]
    pub decimal: Option<Decimal>,
    /// Encoding: utf-8, utf-16le, utf-16be or windows-1252 (latin-1)
    #[arg(long, value_name = "NAME", value_parser = parse::<Encoding>)]
    pub encoding: Option<Encoding>,
    /// Column of the time stamps, by name or as #1, #2, ...; none ignores time stamps
    #[arg(long, value_name = "NAME")]
    pub time_column: Option<String>,
    /// Unit of the time stamps: s, ms, us, ns, min or h
    #[arg(long, value_name = "UNIT", value_parser = parse::<TimeUnit>)]
    pub time_unit: Option<TimeUnit>,
    /// Lines to leave out at the head of the file
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub skip_rows: usize,
}

fn parse<T: std::str::FromStr<Err = String>>(text: &str) -> Result<T, String> {
    text.parse()
}

impl TextArgs {
    /// As the readers want them; the column of time is apart.
    pub fn options(&self) -> TextOptions {
        TextOptions {
            delimiter: self.delimiter,
            decimal: self.decimal,
            encoding: self.encoding,
            time_unit: self.time_unit,
            skip_rows: self.skip_rows,
        }
    }

    /// The first flag that was given, for commands that take none of them for some inputs.
    pub(crate) fn given(&self) -> Option<&'static str> {
        [
            ("delimiter", self.delimiter.is_some()),
            ("decimal", self.decimal.is_some()),
            ("encoding", self.encoding.is_some()),
            ("time-column", self.time_column.is_some()),
            ("time-unit", self.time_unit.is_some()),
            ("skip-rows", self.skip_rows > 0),
        ]
        .into_iter()
        .find(|(_, given)| *given)
        .map(|(flag, _)| flag)
    }
}
