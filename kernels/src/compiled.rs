//! Operations are compiled once for f32 and once for f64, in this crate.
//!
//! A generic function is compiled in every crate that calls it. With the vector bodies inside, that was most of the work of
//! building the crates above, at every change of theirs. [`compiled!`] turns a generic operation into a call of one of two
//! functions that are compiled here: the number type carries them as the methods of a hidden trait.

/// Declares `pub fn name<T>(..)` whose body is compiled here for f32 and for f64. `Entry` names the trait that carries the two
/// compiled functions; it must be listed in [`Compiled`].
macro_rules! compiled {
    (
        $(#[$meta:meta])*
        $vis:vis fn $name:ident<$T:ident>($($arg:ident: $ty:ty),* $(,)?) $(-> $out:ty)? as $entry:ident $body:block
    ) => {
        $(#[$meta])*
        #[inline]
        $vis fn $name<$T: $crate::Real>($($arg: $ty),*) $(-> $out)? {
            <$T as $entry<$T>>::call($($arg),*)
        }

        #[doc(hidden)]
        pub trait $entry<$T> {
            #[track_caller]
            fn call($($arg: $ty),*) $(-> $out)?;
        }

        const _: () = {
            #[track_caller]
            fn body<$T: $crate::Real>($($arg: $ty),*) $(-> $out)? $body

            const _: () = {
                type $T = f32;
                impl $entry<$T> for $T {
                    #[track_caller]
                    fn call($($arg: $ty),*) $(-> $out)? {
                        body::<$T>($($arg),*)
                    }
                }
            };
            const _: () = {
                type $T = f64;
                impl $entry<$T> for $T {
                    #[track_caller]
                    fn call($($arg: $ty),*) $(-> $out)? {
                        body::<$T>($($arg),*)
                    }
                }
            };
        };
    };
}
pub(crate) use compiled;

/// Every operation that is compiled here.
#[doc(hidden)]
pub trait Compiled:
    Sized
    + crate::activation::ForwardEntry<Self>
    + crate::activation::BackwardEntry<Self>
    + crate::layer_norm::ForwardEntry<Self>
    + crate::layer_norm::BackwardEntry<Self>
    + crate::attention::PackKeysEntry<Self>
    + crate::attention::ForwardEntry<Self>
    + crate::attention::ForwardPackedEntry<Self>
    + crate::attention::BackwardEntry<Self>
    + crate::dropout::ForwardEntry<Self>
    + crate::dropout::BackwardEntry<Self>
    + crate::adam::StepEntry<Self>
    + crate::adam::clip::SquaredNormEntry<Self>
    + crate::gemm::GemmWithEntry<Self>
    + crate::gemm::PackBEntry<Self>
    + crate::gemm::GemmPackedColumnsEntry<Self>
    + crate::gemm::RowGrainEntry<Self>
    + crate::softmax::ForwardEntry<Self>
    + crate::softmax::BackwardEntry<Self>
    + crate::losses::cross_entropy::ForwardEntry<Self>
    + crate::losses::cross_entropy::BackwardEntry<Self>
    + crate::losses::masked_mse::ForwardEntry<Self>
    + crate::losses::masked_mse::BackwardEntry<Self>
    + crate::losses::bce_logits::ForwardEntry<Self>
    + crate::losses::bce_logits::BackwardEntry<Self>
    + crate::feed_forward::PrepareEntry<Self>
    + crate::feed_forward::ForwardEntry<Self>
    + crate::feed_forward::HiddenOfRowEntry<Self>
    + crate::feed_forward::RowOfHiddenEntry<Self>
    + crate::feed_forward::BackwardEntry<Self>
    + crate::linear::PrepareEntry<Self>
    + crate::linear::ForwardEntry<Self>
    + crate::linear::BackwardEntry<Self>
    + crate::conv1d::PrepareEntry<Self>
    + crate::conv1d::ForwardEntry<Self>
    + crate::conv1d::ForwardDirectEntry<Self>
    + crate::conv1d::ForwardRowsEntry<Self>
    + crate::conv1d::BackwardEntry<Self>
    + crate::conv1d::BackwardDirectEntry<Self>
    + crate::pool::ForwardEntry<Self>
    + crate::pool::BackwardEntry<Self>
    + crate::embed::gather_rows::ForwardEntry<Self>
    + crate::embed::gather_rows::BackwardEntry<Self>
    + crate::embed::prepend_row::ForwardEntry<Self>
    + crate::embed::prepend_row::BackwardEntry<Self>
    + crate::embed::add_rows::ForwardEntry<Self>
    + crate::embed::add_rows::BackwardEntry<Self>
    + crate::absorbed_attention::ForwardEntry<Self>
    + crate::absorbed_attention::AbsorbQueryEntry<Self>
    + crate::absorbed_attention::AttendSectionEntry<Self>
    + crate::absorbed_attention::ValuesOfSectionsEntry<Self>
    + crate::absorbed_attention::BackwardEntry<Self>
    + crate::reduce::ForwardEntry<Self>
    + crate::reduce::BackwardEntry<Self>
    + crate::elementwise::AddEntry<Self>
    + crate::elementwise::AddBackwardEntry<Self>
    + crate::elementwise::MulEntry<Self>
    + crate::elementwise::MulBackwardEntry<Self>
    + crate::elementwise::ScaleEntry<Self>
    + crate::elementwise::ScaleBackwardEntry<Self>
{
}

macro_rules! all_of {
    ($($t:ty)*) => {$(impl Compiled for $t {})*};
}
all_of!(f32 f64);
