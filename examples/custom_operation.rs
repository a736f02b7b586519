//! An operation of your own with the whole battery of checks: SiLU, y = x sigmoid(x).
//!
//! ```text
//! cargo run --release --example custom_operation
//! ```

#![allow(clippy::print_stdout, reason = "an example shows its result")]

use heartlore::error::Result;
use heartlore::graph::check::{self, Settings};
use heartlore::graph::number::Number;
use heartlore::graph::ops::CustomOp;
use heartlore::kernels::Real;
use heartlore::tensor::Shape;

#[derive(Clone, PartialEq, Debug)]
struct Silu;

impl CustomOp for Silu {
    const HAS_FORMULA: bool = true;
    fn name(&self) -> &'static str {
        "silu"
    }
    fn shape(&self, inputs: &[&Shape]) -> Result<Shape> {
        Ok(inputs[0].clone())
    }
    fn forward<T: Real>(&self, _: &[&Shape], inputs: &[&[T]], y: &mut [T]) {
        y.iter_mut().zip(inputs[0]).for_each(|(y, &x)| *y = x / (T::ONE + (-x).exp()));
    }
    fn backward<T: Real>(&self, _: &[&Shape], x: &[&[T]], dy: &[T], gradients: &mut [Option<&mut [T]>]) {
        let Some(dx) = &mut gradients[0] else { return };
        for i in 0..dy.len() {
            let s = T::ONE / (T::ONE + (-x[0][i]).exp());
            dx[i] += s * (T::ONE + x[0][i] * (T::ONE - s)) * dy[i];
        }
    }
    fn formula<N: Number>(&self, _: &[&Shape], inputs: &[&[N]]) -> Vec<N> {
        inputs[0].iter().map(|&x| x * x.sigmoid()).collect()
    }
}

fn main() -> Result<()> {
    println!("{}", check::operation(Silu, &[[2, 5].into()], Settings::default())?.into_result()?);
    Ok(())
}
