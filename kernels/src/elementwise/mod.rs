//! Element by element: sum, product and scaling of tensors of one shape.
//!
//! | operation | value | derivative |
//! |---|---|---|
//! | [`add`] | y = a + b | da = dy, db = dy |
//! | [`mul`] | y = a b | da = b dy, db = a dy |
//! | [`scale`] | y = c x | dx = c dy |
//!
//! Nothing is saved: the product's derivative reads its inputs again. Cost: one FLOP an element and 8 to 12 bytes of
//! traffic in f32, so all three run at the speed of memory; there is no hand-written vector body, the plain loop is
//! compiled once for each instruction set (`map.rs`). Each element is rounded once, so every instruction set gives the
//! same bits. NaN and infinities follow IEEE 754.

use crate::contract::len;
use crate::{GradMut, Isa};
use map::{Map1, Map2};

pub(crate) mod map;

crate::compiled::compiled! {
    /// y = a + b; all of one length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add<T>(isa: Isa, a: &[T], b: &[T], y: &mut [T]) as AddEntry {
        len("add", "b", a.len(), b.len());
        len("add", "y", a.len(), y.len());
        isa.run(Map2 { a, b, out: GradMut::overwrite(y), f: |a, b| a + b });
    }
}

crate::compiled::compiled! {
    /// da = dy and db = dy.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn add_backward<T>(isa: Isa, dy: &[T], da: Option<GradMut<'_, T>>, db: Option<GradMut<'_, T>>) as AddBackwardEntry {
        for (what, out) in [("da", da), ("db", db)] {
            if let Some(out) = out {
                len("add backward", what, dy.len(), out.data.len());
                isa.run(Map1 { x: dy, out, f: |dy| dy });
            }
        }
    }
}

crate::compiled::compiled! {
    /// y = a b, element by element; all of one length.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn mul<T>(isa: Isa, a: &[T], b: &[T], y: &mut [T]) as MulEntry {
        len("mul", "b", a.len(), b.len());
        len("mul", "y", a.len(), y.len());
        isa.run(Map2 { a, b, out: GradMut::overwrite(y), f: |a, b| a * b });
    }
}

crate::compiled::compiled! {
    /// da = b dy and db = a dy.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn mul_backward<T>(
        isa: Isa,
        a: &[T],
        b: &[T],
        dy: &[T],
        da: Option<GradMut<'_, T>>,
        db: Option<GradMut<'_, T>>,
    ) as MulBackwardEntry {
        len("mul backward", "a", dy.len(), a.len());
        len("mul backward", "b", dy.len(), b.len());
        for (what, other, out) in [("da", b, da), ("db", a, db)] {
            if let Some(out) = out {
                len("mul backward", what, dy.len(), out.data.len());
                isa.run(Map2 { a: other, b: dy, out, f: |other, dy| other * dy });
            }
        }
    }
}

crate::compiled::compiled! {
    /// y = c x, with c rounded to `T` first.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn scale<T>(isa: Isa, c: f64, x: &[T], y: &mut [T]) as ScaleEntry {
        len("scale", "y", x.len(), y.len());
        let c = T::of(c);
        isa.run(Map1 { x, out: GradMut::overwrite(y), f: move |x| c * x });
    }
}

crate::compiled::compiled! {
    /// dx = c dy.
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn scale_backward<T>(isa: Isa, c: f64, dy: &[T], dx: GradMut<'_, T>) as ScaleBackwardEntry {
        len("scale backward", "dx", dy.len(), dx.data.len());
        let c = T::of(c);
        isa.run(Map1 { x: dy, out: dx, f: move |dy| c * dy });
    }
}

#[cfg(test)]
mod tests;
