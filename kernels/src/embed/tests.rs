use super::*;
use crate::GradMut;
use crate::proofs::{assert_gradient, assert_output, dot};
use crate::testing::{Rng, to_f32};

const SHAPES: [Dims; 6] = [
    Dims { batch: 0, rows: 2, cols: 3 },
    Dims { batch: 2, rows: 0, cols: 3 },
    Dims { batch: 2, rows: 3, cols: 0 },
    Dims { batch: 1, rows: 1, cols: 1 },
    Dims { batch: 3, rows: 4, cols: 5 },
    Dims { batch: 2, rows: 3, cols: 17 },
];

#[test]
fn prepend_row_moves_every_element_to_its_place_and_back() {
    for d in SHAPES {
        let (n, tall) = (d.batch * d.rows * d.cols, d.batch * (d.rows + 1) * d.cols);
        let mut rng = Rng(n as u64 + 1);
        let (x, row, dy) = (rng.vec(n), rng.vec(d.cols), rng.vec(tall));
        let at = |b: usize, r: usize, c: usize| (b * (d.rows + 1) + r) * d.cols + c;

        let mut y = vec![f64::NAN; tall];
        prepend_row::forward(d, &x, &row, &mut y);
        let (mut dx, mut drow) = (vec![0.0; n], vec![0.0; d.cols]);
        for b in 0..d.batch {
            for c in 0..d.cols {
                assert_eq!(y[at(b, 0, c)], row[c]);
                drow[c] += dy[at(b, 0, c)];
                for r in 0..d.rows {
                    assert_eq!(y[at(b, r + 1, c)], x[(b * d.rows + r) * d.cols + c]);
                    dx[(b * d.rows + r) * d.cols + c] = dy[at(b, r + 1, c)];
                }
            }
        }
        let dy = to_f32(&dy);
        assert_output("dx", &dx, 0.0, 2e-7, |g| prepend_row::backward(d, &dy, Some(g), None));
        assert_output("drow", &drow, 1e-6, 2e-7, |g| prepend_row::backward(d, &dy, None, Some(g)));
    }
}

#[test]
fn add_rows_adds_the_table_to_every_sample() {
    for d in SHAPES {
        let (n, sample) = (d.batch * d.rows * d.cols, d.rows * d.cols);
        let mut rng = Rng(n as u64 + 2);
        let (x, table, dy) = (rng.vec(n), rng.vec(sample), rng.vec(n));
        let mut y = vec![f64::NAN; n];
        add_rows::forward(d, &x, &table, &mut y);
        let mut dtable = vec![0.0; sample];
        for i in 0..n {
            assert_eq!(y[i], x[i] + table[i % sample]);
            dtable[i % sample] += dy[i];
        }
        let dy32 = to_f32(&dy);
        assert_output("dx", &dy, 2e-7, 2e-7, |g| add_rows::backward(d, &dy32, Some(g), None));
        assert_output("dtable", &dtable, 1e-6, 2e-7, |g| add_rows::backward(d, &dy32, None, Some(g)));
    }
}

#[test]
fn gather_rows_picks_and_its_gradient_adds_up_duplicates() {
    let d = gather_rows::Dims { batch: 2, rows: 4, cols: 3, picks: 5 };
    // Row 2 of sample 0 three times, row 3 of it never.
    let index = [2, 0, 2, 1, 2, 3, 3, 0, 1, 2];
    let mut rng = Rng(6);
    let (x, dy) = (rng.vec(24), rng.vec(30));
    let mut y = vec![f64::NAN; 30];
    gather_rows::forward(d, &x, &index, &mut y);
    let mut dx = vec![0.0; 24];
    for b in 0..2 {
        for p in 0..5 {
            for c in 0..3 {
                let from = (b * 4 + index[b * 5 + p] as usize) * 3 + c;
                assert_eq!(y[(b * 5 + p) * 3 + c], x[from]);
                dx[from] += dy[(b * 5 + p) * 3 + c];
            }
        }
    }
    assert_eq!(dx[9..12], [0.0; 3]);
    let dy = to_f32(&dy);
    assert_output("dx", &dx, 1e-6, 2e-7, |g| gather_rows::backward(d, &index, &dy, g));
}

#[test]
fn gathering_everything_is_the_identity_and_nothing_is_nothing() {
    let x = Rng(4).vec(12);
    let all = gather_rows::Dims { batch: 1, rows: 4, cols: 3, picks: 4 };
    let mut y = vec![0.0; 12];
    gather_rows::forward(all, &x, &[0, 1, 2, 3], &mut y);
    assert_eq!(x, y);
    let none = gather_rows::Dims { picks: 0, ..all };
    gather_rows::forward(none, &x, &[], &mut []);
    let mut dx = vec![f64::NAN; 12];
    gather_rows::backward(none, &[], &[], GradMut::overwrite(&mut dx));
    assert_eq!(dx, [0.0; 12]);
}

#[test]
fn gradients_match_central_differences() {
    let d = Dims { batch: 2, rows: 2, cols: 3 };
    let mut rng = Rng(7);
    let (x, row, table, dy) = (rng.vec(12), rng.vec(3), rng.vec(6), rng.vec(18));
    let (mut y, mut dx, mut drow) = (vec![0.0; 18], vec![f64::NAN; 12], vec![f64::NAN; 3]);
    prepend_row::backward(d, &dy, Some(GradMut::overwrite(&mut dx)), Some(GradMut::overwrite(&mut drow)));
    assert_gradient("prepend_row x", &x, &dx, |x| {
        prepend_row::forward(d, x, &row, &mut y);
        dot(&y, &dy)
    });
    assert_gradient("prepend_row row", &row, &drow, |row| {
        prepend_row::forward(d, &x, row, &mut y);
        dot(&y, &dy)
    });

    let (dy, y) = (&dy[..12], &mut y[..12]);
    let mut dtable = vec![f64::NAN; 6];
    add_rows::backward(d, dy, Some(GradMut::overwrite(&mut dx)), Some(GradMut::overwrite(&mut dtable)));
    assert_gradient("add_rows x", &x, &dx, |x| {
        add_rows::forward(d, x, &table, y);
        dot(y, dy)
    });
    assert_gradient("add_rows table", &table, &dtable, |table| {
        add_rows::forward(d, &x, table, y);
        dot(y, dy)
    });

    let d = gather_rows::Dims { batch: 2, rows: 2, cols: 3, picks: 2 };
    let index = [1, 1, 0, 1];
    gather_rows::backward(d, &index, dy, GradMut::overwrite(&mut dx));
    assert_gradient("gather_rows", &x, &dx, |x| {
        gather_rows::forward(d, x, &index, y);
        dot(y, dy)
    });
}

#[test]
fn the_sinusoidal_table_is_the_papers() {
    let mut out = [f64::NAN; 12];
    sinusoidal_table(3, 4, &mut out);
    // Columns: sin(pos), cos(pos), sin(pos / 100), cos(pos / 100).
    let want = [
        [0.0, 1.0, 0.0, 1.0],
        [
            0.841_470_984_807_896_5,
            0.540_302_305_868_139_7,
            0.009_999_833_334_166_664,
            0.999_950_000_416_665_3,
        ],
        [
            0.909_297_426_825_681_7,
            -0.416_146_836_547_142_4,
            0.019_998_666_693_333_08,
            0.999_800_006_666_577_8,
        ],
    ];
    crate::testing::assert_close("table", &out, want.as_flattened(), 0.0, 2e-15);
    // Far down, in widths that end within a group of columns, and in an odd one, which ends with a sine.
    for (rows, cols) in [(1300, 22), (33, 7), (20_481, 2), (1, 1)] {
        let mut out = vec![f64::NAN; rows * cols];
        sinusoidal_table(rows, cols, &mut out);
        for (i, x) in out.iter().enumerate() {
            let (pos, c) = ((i / cols) as f64, i % cols);
            let angle = pos / 10_000f64.powf((c - c % 2) as f64 / cols as f64);
            let want = if c % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((x - want).abs() <= f64::EPSILON * (pos + 4.0), "{rows} x {cols}, {i}: {x}, not {want}");
        }
    }
    // sin^2 + cos^2 = 1 for every pair.
    let mut out = vec![f32::NAN; 50 * 7];
    sinusoidal_table(50, 7, &mut out);
    for (pos, row) in out.chunks(7).enumerate() {
        for pair in row[..6].chunks(2) {
            assert!((pair[0] * pair[0] + pair[1] * pair[1] - 1.0).abs() < 3e-7);
        }
        assert_eq!(row[6], (pos as f64 / 10_000f64.powf(6.0 / 7.0)).sin() as f32);
    }
}

#[test]
#[should_panic(expected = "gather_rows: an index must be below the number of rows, got 4")]
fn an_index_past_the_end_is_refused() {
    let d = gather_rows::Dims { batch: 1, rows: 4, cols: 1, picks: 2 };
    gather_rows::forward(d, &[0.0; 4], &[0, 4], &mut [0.0; 2]);
}

#[test]
#[should_panic(expected = "gather_rows backward: an index must be below the number of rows, got 9")]
fn an_index_past_the_end_is_refused_backward() {
    let d = gather_rows::Dims { batch: 1, rows: 4, cols: 1, picks: 1 };
    gather_rows::backward(d, &[9], &[0.0], GradMut::overwrite(&mut [0.0; 4]));
}

#[test]
#[should_panic(expected = "prepend_row: y has 6 elements, expected 9")]
fn a_missing_row_is_refused() {
    let d = Dims { batch: 1, rows: 2, cols: 3 };
    prepend_row::forward(d, &[0.0; 6], &[0.0; 3], &mut [0.0; 6]);
}

#[test]
#[should_panic(expected = "add_rows backward: dtable has 5 elements, expected 6")]
fn a_short_table_is_refused() {
    let d = Dims { batch: 1, rows: 2, cols: 3 };
    add_rows::backward(d, &[0.0; 6], None, Some(GradMut::overwrite(&mut [0.0; 5])));
}
