//! [`Precision`]: the number types programs run in, and the one place where the passes are compiled for them.

use super::{Exec, ExecContext};
use crate::graph::packed::PackedPart;
use heartlore_kernels::Real;

/// The number types programs run in: f32 and f64.
///
/// The passes are compiled here once for each, not again in every crate and test that uses an [`Exec`]: with the SIMD
/// kernels inside, that is most of the work of a build.
pub trait Precision: Real + passes::Passes {}
impl Precision for f32 {}
impl Precision for f64 {}

/// Not to be named outside: nothing else can be a [`Precision`].
mod passes {
    use super::{Exec, ExecContext, PackedPart};

    pub trait Passes: Sized {
        fn prepare(part: &mut PackedPart<Self>, params: &[Self]);
        fn forward(
            exec: &mut Exec<Self>,
            params: &[Self],
            aids: ExecContext<'_, Self>,
            done: &mut dyn FnMut(usize),
        );
        fn backward(
            exec: &mut Exec<Self>,
            params: &[Self],
            aids: ExecContext<'_, Self>,
            cotangent: &[Self],
            grads: &mut [Self],
            done: &mut dyn FnMut(usize),
        );
    }

    macro_rules! compile_for {
        ($($t:ty)*) => {$(
            impl Passes for $t {
                fn prepare(part: &mut PackedPart<Self>, params: &[Self]) {
                    part.fill(params);
                }
                fn forward(
                    exec: &mut Exec<Self>,
                    params: &[Self],
                    aids: ExecContext<'_, Self>,
                    done: &mut dyn FnMut(usize),
                ) {
                    exec.forward_pass(params, aids, done);
                }
                fn backward(
                    exec: &mut Exec<Self>,
                    params: &[Self],
                    aids: ExecContext<'_, Self>,
                    cotangent: &[Self],
                    grads: &mut [Self],
                    done: &mut dyn FnMut(usize),
                ) {
                    exec.backward_pass(params, aids, cotangent, grads, done);
                }
            }
        )*};
    }
    compile_for!(f32 f64);
}
