//! Every operation of every token against plain Rust, lane by lane.

use super::*;

/// Runs `check` once per instruction set of this CPU.
struct Checks;

fn lanes<S: Simd>(s: S, v: S::V) -> Vec<f32> {
    let mut out = vec![f32::NAN; S::LANES];
    s.store(v, &mut out);
    out
}

fn lanes_u32<S: Simd>(s: S, v: S::U) -> Vec<u32> {
    let mut out = vec![0; S::LANES];
    s.store_u32(v, &mut out);
    out
}

impl Task for Checks {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let xs: Vec<f32> = (0..S::LANES).map(|i| (i as f32 - 3.3) * 1.7).collect();
        let ys: Vec<f32> = (0..S::LANES).map(|i| (i as f32 * 0.61).sin() * 4.0).collect();
        let (x, y) = (s.load(&xs), s.load(&ys));
        let each = |v: S::V, f: &dyn Fn(f32, f32) -> f32, name: &str| {
            for (i, got) in lanes(s, v).into_iter().enumerate() {
                let want = f(xs[i], ys[i]);
                assert_eq!(got.to_bits(), want.to_bits(), "{name} lane {i}: {got} for {want}");
            }
        };
        each(s.add(x, y), &|a, b| a + b, "add");
        each(s.sub(x, y), &|a, b| a - b, "sub");
        each(s.mul(x, y), &|a, b| a * b, "mul");
        each(s.div(x, y), &|a, b| a / b, "div");
        each(s.max(x, y), &f32::max, "max");
        each(s.min(x, y), &f32::min, "min");
        each(s.abs(x), &|a, _| a.abs(), "abs");
        each(s.neg(x), &|a, _| -a, "neg");
        each(s.copysign(x, y), &f32::copysign, "copysign");
        each(s.sqrt(s.abs(x)), &|a, _| a.abs().sqrt(), "sqrt");
        each(s.select(s.gt(x, y), x, y), &|a, b| if a > b { a } else { b }, "select");
        for (i, got) in lanes(s, s.fma(x, y, x)).into_iter().enumerate() {
            let want = f64::from(xs[i]) * f64::from(ys[i]) + f64::from(xs[i]);
            assert!((f64::from(got) - want).abs() <= 1e-6 * (1.0 + want.abs()), "fma lane {i}");
        }
        for (i, got) in lanes(s, s.fnma(x, y, x)).into_iter().enumerate() {
            let want = f64::from(xs[i]) - f64::from(xs[i]) * f64::from(ys[i]);
            assert!((f64::from(got) - want).abs() <= 1e-6 * (1.0 + want.abs()), "fnma lane {i}");
        }
        for v in [0.5f32, 1.5, 2.5, -0.5, -1.5, 3.49, 1e9, -0.2, 8_388_607.5] {
            let got = lanes(s, s.round(s.splat(v)))[0];
            assert_eq!(got, v.round_ties_even(), "round {v}");
        }
        for n in -126..=127 {
            assert_eq!(lanes(s, s.pow2i(s.splat(n as f32)))[0], 2f32.powi(n), "pow2i {n}");
        }
        let total: f64 = xs.iter().map(|&v| f64::from(v)).sum();
        assert!((f64::from(s.sum(x)) - total).abs() < 1e-4);
        // Row r holds r + 1 and, in lane r, also 100 r.
        let row = |r: usize| (0..S::LANES).map(move |i| (r + 1 + if i == r { 100 * r } else { 0 }) as f32);
        let rows: Vec<S::V> = (0..S::LANES).map(|r| s.load(&row(r).collect::<Vec<_>>())).collect();
        let sums = lanes(s, s.fold_lanes(&rows, |a, b| s.add(a, b)));
        let maxima = lanes(s, s.fold_lanes(&rows, |a, b| s.max(a, b)));
        for r in 0..S::LANES {
            assert_eq!(sums[r], row(r).sum::<f32>(), "sum of row {r}");
            assert_eq!(maxima[r], row(r).fold(0.0, f32::max), "maximum of row {r}");
        }
        let mut square = [s.splat(0.0); 16];
        square[..S::LANES].copy_from_slice(&rows);
        s.transpose(&mut square);
        for (lane, v) in square.into_iter().enumerate().take(S::LANES) {
            let column: Vec<f32> = (0..S::LANES).filter_map(|r| row(r).nth(lane)).collect();
            assert_eq!(lanes(s, v), column, "column {lane}");
        }
        assert_eq!(s.hmax(x), xs.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        // A NaN comparison is false.
        assert_eq!(lanes(s, s.select(s.gt(s.splat(f32::NAN), x), x, y)), ys);

        let a: Vec<u32> = (0..S::LANES as u32).map(|i| i.wrapping_mul(0x9E37_79B9) ^ 0xdead_beef).collect();
        let av = s.u32_lanes(&a);
        let b = 0xD251_1F53u32;
        let bv = s.splat_u32(b);
        let (even, swapped) = (lanes_u32(s, s.mul_even_u32(av, bv)), lanes_u32(s, s.swap_u32(av)));
        let blended = lanes_u32(s, s.blend_u32(av, bv));
        for i in (0..S::LANES).step_by(2) {
            let p = u64::from(a[i]) * u64::from(b);
            assert_eq!((even[i], even[i + 1]), (p as u32, (p >> 32) as u32), "mul_even lane {i}");
            assert_eq!((swapped[i], swapped[i + 1]), (a[i + 1], a[i]), "swap lane {i}");
            assert_eq!((blended[i], blended[i + 1]), (a[i], b), "blend lane {i}");
        }
        let (first, second) = s.zip(x, y);
        let zipped = [lanes(s, first), lanes(s, second)].concat();
        for i in 0..S::LANES {
            assert_eq!((zipped[2 * i], zipped[2 * i + 1]), (xs[i], ys[i]), "zip lane {i}");
        }
        let mut dest = ys.clone();
        s.store_where(s.gt(x, y), x, &mut dest);
        for i in 0..S::LANES {
            assert_eq!(dest[i], if xs[i] > ys[i] { xs[i] } else { ys[i] }, "store_where lane {i}");
        }
        s.prefetch(&dest);
        s.prefetch(&[]);
        // A NaN in the second operand stays, wherever the first lies.
        for v in [s.max(x, s.splat(f32::NAN)), s.min(x, s.splat(f32::NAN))] {
            assert!(lanes(s, v).iter().all(|v| v.is_nan()));
        }
        let each_u32 = |v: S::U, f: &dyn Fn(u32) -> u32, name: &str| {
            for (i, got) in lanes_u32(s, v).into_iter().enumerate() {
                assert_eq!(got, f(a[i]), "{name} lane {i}");
            }
        };
        each_u32(s.add_u32(av, bv), &|v| v.wrapping_add(b), "add_u32");
        each_u32(s.xor_u32(av, bv), &|v| v ^ b, "xor");
        each_u32(s.and_u32(av, bv), &|v| v & b, "and");
        each_u32(s.or_u32(av, bv), &|v| v | b, "or");
        each_u32(s.shl_u32::<16>(av), &|v| v << 16, "shl");
        each_u32(s.shr_u32::<16>(av), &|v| v >> 16, "shr");
        assert_eq!(lanes_u32(s, s.iota_u32()), (0..S::LANES as u32).collect::<Vec<_>>());
        let half = s.splat_u32(S::LANES as u32 / 2);
        let below = lanes(s, s.select(s.lt_u31(s.iota_u32(), half), s.splat(1.0), s.splat(0.0)));
        assert_eq!(below.iter().sum::<f32>() as usize, S::LANES / 2);
        for limit in [0, 1, 0x7fff_ffff, 0x8000_0000, a[S::LANES - 1], u32::MAX] {
            let one_where = |m| lanes(s, s.select(m, s.splat(1.0), s.splat(0.0)));
            let (more, less) =
                (one_where(s.lt_u32(s.splat_u32(limit), av)), one_where(s.lt_u32(av, s.splat_u32(limit))));
            for i in 0..S::LANES {
                assert_eq!([more[i], less[i]], [limit < a[i], a[i] < limit].map(|x| f32::from(u8::from(x))));
            }
        }

        // Partial loads fill with zero, partial stores leave the rest alone, for every count and any alignment.
        let source: Vec<f32> = (0..S::LANES + 3).map(|i| i as f32 + 1.0).collect();
        for start in 0..3 {
            for n in 0..=S::LANES {
                let got = lanes(s, s.load_partial(&source[start..start + n]));
                for (i, g) in got.iter().enumerate() {
                    assert_eq!(*g, if i < n { source[start + i] } else { 0.0 });
                }
                let mut dest = vec![-1.0; S::LANES + 3];
                s.store_partial(s.load(&source), &mut dest[start..start + n]);
                for (i, d) in dest.iter().enumerate() {
                    let want = if (start..start + n).contains(&i) { source[i - start] } else { -1.0 };
                    assert_eq!(*d, want, "start {start}, n {n}, element {i}");
                }
            }
        }
    }
}

/// Test-only: lanes from a slice, through the bits of floats.
trait FromLanes: Simd {
    fn u32_lanes(self, a: &[u32]) -> Self::U {
        let floats: Vec<f32> = a.iter().map(|&x| f32::from_bits(x)).collect();
        self.to_bits(self.load(&floats))
    }
}
impl<S: Simd> FromLanes for S {}

#[test]
fn every_operation_of_every_token_equals_plain_rust() {
    for isa in Isa::available() {
        println!("token checked: {isa}");
        isa.run(Checks);
    }
}

#[test]
fn names_are_found_again_and_unknown_ones_are_not() {
    for isa in Isa::available() {
        assert_eq!(Isa::by_name(isa.name()), Some(isa));
    }
    assert_eq!(Isa::by_name("mmx"), None);
}

struct ShortLoad;
impl Task for ShortLoad {
    type Out = ();
    #[inline(always)]
    fn run<S: Simd>(self, s: S) {
        let short = vec![0.0; S::LANES - 1];
        let _ = std::hint::black_box(s.sum(s.load(std::hint::black_box(&short))));
    }
}

#[test]
fn a_load_past_the_end_panics_on_every_set() {
    for isa in Isa::available() {
        assert!(std::panic::catch_unwind(|| isa.run(ShortLoad)).is_err(), "{isa}");
    }
}

#[test]
fn dot_products_are_chosen_by_maker_and_can_be_switched() {
    for isa in Isa::available() {
        let without = isa.with_bf16_dot(false).unwrap();
        assert_eq!(without.bf16_dot(), None);
        assert_eq!(without.name(), isa.name());
        if let Some(with) = isa.with_bf16_dot(true) {
            assert!(with.bf16_dot().is_some());
            // Detection gives one of the two.
            assert!(isa == with || isa == without);
        } else {
            assert_eq!(isa, without);
        }
    }
}

/// Words that the two ways to pair make of two vectors, each lane's halves.
struct Pairs<'a> {
    first: &'a [f32],
    second: &'a [f32],
}

impl DotTask for Pairs<'_> {
    type Out = [Vec<[u16; 2]>; 2];
    #[inline(always)]
    fn run<D: Bf16>(self, d: D) -> Self::Out {
        let s = d.simd();
        let (first, second) = (s.load(self.first), s.load(self.second));
        [d.pairs_along(first, second), d.pairs_across(first, second)].map(|words| {
            let mut out = vec![0.0; D::S::LANES];
            s.store(words, &mut out);
            out.iter().map(|w| [w.to_bits() as u16, (w.to_bits() >> 16) as u16]).collect()
        })
    }
}

/// x rounded to bf16, a subnormal number to 0.
fn rounded(x: f32) -> u16 {
    let x = if x.is_subnormal() { 0.0f32.copysign(x) } else { x };
    (crate::gemm::round_to_bf16(x).to_bits() >> 16) as u16
}

#[test]
fn pairs_are_rounded_and_in_order() {
    let Some(dot) = Isa::best().with_bf16_dot(true).and_then(Isa::bf16_dot) else {
        eprintln!("skipped: this CPU has no dot products of bf16");
        return;
    };
    let mut bits = 1u32;
    let mut draw = || {
        // All bit patterns, NaN, infinity and subnormal numbers among them; and ties.
        bits = bits.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        f32::from_bits(if bits >> 7 & 1 == 0 { bits } else { bits & 0xffff_0000 | 0x8000 })
    };
    let edges = [f32::NAN, f32::INFINITY, -f32::INFINITY, f32::MAX, f32::MIN, f32::MIN_POSITIVE, -0.0, 1e-40];
    for round in 0..20_000 {
        let mut x: Vec<f32> = (0..32).map(|_| draw()).collect();
        x[round % 25..][..8].copy_from_slice(&edges);
        let [along, across] = dot.run(Pairs { first: &x[..16], second: &x[16..] });
        for i in 0..16 {
            assert_eq!(along[i], [rounded(x[2 * i]), rounded(x[2 * i + 1])], "{:?}", &x[2 * i..2 * i + 2]);
            assert_eq!(across[i], [rounded(x[i]), rounded(x[16 + i])], "{} {}", x[i], x[16 + i]);
        }
    }
}

/// Bytes of a vector's lanes, and the sums of products of four.
struct Quads<'a> {
    x: &'a [f32],
    offset: u32,
    a: &'a [f32],
    b: &'a [f32],
}

impl Int8Task for Quads<'_> {
    type Out = (Vec<u8>, Vec<f32>);
    #[inline(always)]
    fn run<D: Int8>(self, d: D) -> Self::Out {
        let (s, lanes) = (d.simd(), D::S::LANES);
        let mut words = vec![0.0; lanes / 4];
        d.store_bytes(s.load(self.x), s.splat_u32(self.offset), &mut words);
        let bytes = words.iter().flat_map(|w| w.to_bits().to_le_bytes()).collect();
        let mut sums = vec![0.0; lanes];
        let sum = d.dot(s.splat_u32(1000), s.to_bits(s.load(self.a)), s.to_bits(s.load(self.b)));
        s.store(d.to_f32(sum), &mut sums);
        (bytes, sums)
    }
}

#[test]
fn bytes_are_rounded_and_their_products_summed() {
    let mut tried = 0;
    for isa in Isa::available() {
        let Some(dot) = isa.with_int8_dot(true).and_then(Isa::int8_dot) else { continue };
        tried += 1;
        let mut rng = crate::testing::Rng(5);
        for round in 0..2_000u32 {
            // Halves, where ties go to even, among them.
            let x: Vec<f32> = (0..16).map(|_| (rng.uniform() * 127.0 * 2.0).round() as f32 / 2.0).collect();
            let words: Vec<f32> = (0..32).map(|_| f32::from_bits(rng.next() as u32)).collect();
            let offset = [0, 128][round as usize % 2];
            let (a, b) = words.split_at(16);
            let (bytes, sums) = dot.run(Quads { x: &x, offset, a, b });
            for i in 0..isa.lanes() {
                assert_eq!(bytes[i], (x[i].round_ties_even() as i32 + offset as i32) as u8, "{isa} {}", x[i]);
                let quad = a[i].to_bits().to_le_bytes().into_iter().zip(b[i].to_bits().to_le_bytes());
                let want: i32 = quad.map(|(a, b)| i32::from(a) * i32::from(b as i8)).sum();
                assert_eq!(sums[i], (1000 + want) as f32, "{isa}");
            }
        }
        assert_eq!(isa.with_int8_dot(false).unwrap().int8_dot(), None);
    }
    if tried == 0 {
        eprintln!("skipped: this CPU has no dot products of 8-bit integers");
    }
}
