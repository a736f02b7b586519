//! Version 4 files (MATLAB before 1996, and files that other programs write because it is so simple).
//!
//! No file header. Each variable: five 32-bit integers (type MOPT, rows, columns, whether complex, length of the name), the
//! name, the values column by column. MOPT in decimal is 1000 M + 100 O + 10 P + T: M the number format of the machine (0
//! little-endian, 1 big-endian), O zero, P how values are stored, T what they are (0 numbers, 1 text, 2 sparse). Source:
//! MATLAB, *MAT-File Format*, appendix on level 4.

use super::element::{Span, Store, numbers, raw, u32_of};
use super::stream::{Cursor, Input};
use super::tree::{Body, Head, Node};
use super::value::Class;
use crate::error::{Error, Result};

/// Whether the file begins like a version 4 file, and in which byte order.
pub(super) fn sniff(head: &[u8]) -> Option<bool> {
    let b: [u8; 4] = head.get(..4)?.try_into().ok()?;
    [false, true].into_iter().find(|&big| {
        let mopt = u32_of(b, big);
        // The format of the machine must agree with how the number reads; VAX and Cray formats are named later.
        let machine = mopt / 1000;
        mopt < 5000
            && (mopt / 100).is_multiple_of(10)
            && mopt / 10 % 10 <= 5
            && mopt % 10 <= 2
            && (machine >= 2 || (machine == 1) == big)
    })
}

/// All variables.
pub(super) fn read(input: &Input, big: bool) -> Result<Vec<(Head, Node)>> {
    let mut out = Vec::new();
    let mut cursor = Cursor::plain(input, 0);
    while cursor.at() < input.len() {
        let start = cursor.at();
        let bad = |what: String| Error::format(what).at(format!("byte {start}"));
        let mut words = [0u32; 5];
        for word in &mut words {
            let mut b = [0u8; 4];
            cursor.read(&mut b)?;
            *word = u32_of(b, big);
        }
        let [mopt, rows, columns, complex, name_len] = words;
        if mopt / 1000 > 1 {
            return Err(bad("values in VAX or Cray number format are not read".into())
                .remedy("load and save the file with MATLAB or Octave"));
        }
        if mopt >= 2000 || !(mopt / 100).is_multiple_of(10) || complex > 1 {
            return Err(bad(format!("{mopt} is no type of a version 4 variable")));
        }
        let store = match mopt / 10 % 10 {
            0 => Store::F64,
            1 => Store::F32,
            2 => Store::I32,
            3 => Store::I16,
            4 => Store::U16,
            5 => Store::U8,
            other => return Err(bad(format!("unknown number format {other}"))),
        };
        let name = raw(&mut cursor, start + 20, name_len.into(), 4096, "a name")?;
        let name = String::from_utf8_lossy(&name).trim_end_matches('\0').to_string();
        let at = cursor.at();
        let parts = if complex == 1 { 2 } else { 1 };
        let bytes = u64::from(rows)
            .checked_mul(columns.into())
            .and_then(|n| n.checked_mul(store.bytes() as u64))
            .filter(|n| n.checked_mul(parts).is_some_and(|all| all <= input.len() - at));
        let bytes = bytes.ok_or_else(|| {
            bad(format!(
                "'{name}' claims {rows} x {columns} values where {} bytes are left",
                input.len() - at
            ))
            .remedy("the file is cut off or damaged; copy or download it again")
        })?;
        let re = Span { store, at, bytes };
        let im = (complex == 1).then_some(Span { store, at: at + bytes, bytes });
        let dims = vec![rows as usize, columns as usize];
        let (class, body) = match mopt % 10 {
            0 => (Class::Double, Body::Numeric { re, im }),
            1 => (Class::Char, Body::Char(re)),
            2 => (Class::Sparse, Body::Triplets { table: re, complex: columns == 4 }),
            other => return Err(bad(format!("unknown kind of variable {other}"))),
        };
        let dims = match class {
            Class::Sparse => {
                sparse_dims(&mut cursor, re, dims, big).map_err(|e| e.at(format!("variable '{name}'")))?
            }
            _ => dims,
        };
        cursor.seek(at + bytes * parts)?;
        let head = Head {
            name,
            class,
            dims: dims.clone(),
            complex: complex == 1 || columns == 4 && class == Class::Sparse,
            global: false,
        };
        out.push((head, Node { class, dims, body }));
    }
    Ok(out)
}

/// The dimensions of a sparse matrix, which its last row holds. `table` is the dimensions of the list of values.
fn sparse_dims(cursor: &mut Cursor<'_>, span: Span, table: Vec<usize>, big: bool) -> Result<Vec<usize>> {
    let bad = |what: &str| Error::format(format!("sparse array: {what}"));
    let (rows, width) = (table[0] as u64, table[1]);
    if rows == 0 || !(3..=4).contains(&width) {
        return Err(bad("not three or four columns"));
    }
    let mut dims = Vec::new();
    for column in 0..2 {
        let last = numbers(cursor, span, (column + 1) * rows - 1, 1, Class::Double, big)?.into_f64();
        // Far more columns than this fit no memory as marks.
        let whole = last.first().filter(|v| **v >= 0.0 && v.fract() == 0.0 && **v < 1e9);
        dims.push(*whole.ok_or_else(|| bad("the last row holds no dimensions"))? as usize);
    }
    Ok(dims)
}
