//! The lessons of `examples/` run, and still say what they teach: each asserts its own statements while it runs, and the
//! key lines of its output are checked here.
#![allow(dead_code)] // the lessons' `main` functions

#[path = "../examples/02_one_layer.rs"]
mod a_layer;
#[path = "../examples/04_attention.rs"]
mod attention;
#[path = "../examples/01_chain_rule.rs"]
mod chain_rule;
#[path = "../examples/08_finetune_and_embed.rs"]
mod finetune_and_embed;
#[path = "../examples/03_gradient_check.rs"]
mod gradient_check;
#[path = "../examples/07_mask_and_reconstruct.rs"]
mod mask_and_reconstruct;
#[path = "../examples/06_memory_plan.rs"]
mod memory_plan;
#[path = "../examples/05_tiny_transformer.rs"]
mod tiny_transformer;

use std::error::Error;
use std::io::Write;

/// Runs a lesson and returns its output, after checking what holds for all of them.
fn read(lesson: impl Fn(&mut dyn Write) -> Result<(), Box<dyn Error>>) -> String {
    let mut bytes = Vec::new();
    lesson(&mut bytes).expect("the lesson runs to its end");
    let text = String::from_utf8(bytes).expect("UTF-8");
    assert!(text.starts_with("LESSON "), "a lesson starts with its title");
    for (i, line) in text.lines().enumerate() {
        let n = line.chars().count();
        assert!(n <= 110, "line {} is {n} characters wide: {line}", i + 1);
        assert_eq!(line, line.trim_end(), "line {} ends in blanks", i + 1);
    }
    assert!(text.contains("To see more, change this file:"), "a lesson ends with what to change");
    text
}

/// Every expected line, blanks squeezed, in this order.
fn says(text: &str, lines: &[&str]) {
    let squeeze = |s: &str| s.split_whitespace().collect::<Vec<_>>().join(" ");
    let squeezed: Vec<String> = text.lines().map(squeeze).collect();
    let mut from = 0;
    for line in lines {
        match squeezed[from..].iter().position(|l| l.contains(&squeeze(line))) {
            Some(at) => from += at,
            None => panic!("the lesson no longer says {line:?} (from its line {from} on):\n{text}"),
        }
    }
}

/// The numbers of the first line that contains `mark`.
fn numbers(text: &str, mark: &str) -> Vec<f64> {
    let line = text.lines().find(|l| l.contains(mark)).unwrap_or_else(|| panic!("no line {mark:?}:\n{text}"));
    line.split_whitespace().filter_map(|w| w.parse().ok()).collect()
}

#[test]
fn lesson_1_two_uses_add_up() {
    let text = read(chain_rule::lesson);
    // By pencil: u = 6, v = 8, y = 48; du = 8 + 6, da = 6 + 42, db = 28.
    says(
        &text,
        &[
            "y = v * u = 8 * 6 = 48",
            "du = 8 + 6 = 14",
            "da = 6 + 42 = 48",
            "db = 28",
            "reverse sweep 48 28",
            "algebra: 2ab^2 + 2ab and 2a^2b + a^2 48 28",
            "difference quotient, (y(x+h) - y(x-h)) / 2h 48.0000000 28.0000000",
            "18 12 <- wrong",
            "%2 mul a b 6 14 u",
            "%4 mul %3 %2 48 1 y",
            "dw = dz * x = 0.5 db = dz * 1 = 0.25 dx = dz * w = 0.125",
            "recorded dw = 0.5 db = 0.25 dx = 0.125",
            "Next: 02_one_layer",
        ],
    );
}

#[test]
fn lesson_2_the_layer_and_its_gradients() {
    let text = read(a_layer::lesson);
    says(
        &text,
        &[
            "z [2, 4] 2 -3 3 2",
            "4 5 4 2",
            "dz [2, 4] 1 0 -1 3",
            "dw [4, 3] 1 4 5",
            "0 1 3",
            "-1 2 13",
            "3 4 -9",
            "dx [2, 3] -1 0 0",
            "7 9 8",
            "db [4] 3 1 3 1",
            "= 3*2 + (-2)*1 = 4",
            "dx[0, 0] = sum over outputs of dz[0, o] w[o, 0] = 1*2 + 0*1 + (-1)*0 + 3*(-1) = -1",
            "dw 12 0",
            "dw[0, 0] goes from 1 to 2, dx[0, 0] stays at -1",
            "first layer: linear: x has shape [2, 3], w [3, 4]; w must be [outputs, 3]",
            "Next: 03_gradient_check",
        ],
    );
}

#[test]
fn lesson_3_steps_cotangents_and_culprits() {
    let text = read(gradient_check::lesson);
    // Truncation h^2/6 e = 4.5e-3 at h = 0.1, and 100 times less at h = 0.01; 1e-5 is 7 decades better than 1e-1.
    let error = |h: &str| numbers(&text, &format!(" {h}  "))[2];
    assert!((error("1e-1") / 4.5e-3 - 1.0).abs() < 0.02 && (error("1e-2") / 4.5e-5 - 1.0).abs() < 0.02);
    assert!(error("1e-5") < 1e-9 && error("1e-12") > 1e-6);
    says(
        &text,
        &[
            "sum 1 1 1 0.00000 0.00000 0.00000 0.00000 0.00000 0.00000 fault: passes",
            "right: passes",
            "fault: CAUGHT",
            "the whole chain:",
            "GRADIENTS DIFFER: 3 elements",
            "right",
            "WRONG DERIVATIVE",
            "right",
            "gradients agree: 38 elements of 6 tensors",
            "GRADIENTS DIFFER: 38 elements of 6 tensors",
            "wrong derivative in %5 activate (hidden units)",
            "the same program passes: yes",
            "Next: 04_attention",
        ],
    );
    let culprit = text.lines().find(|l| l.contains("WRONG DERIVATIVE")).unwrap();
    assert!(culprit.contains("softmax"), "{culprit}");
}

#[test]
fn lesson_4_tiles_give_the_same_answer() {
    let text = read(attention::lesson);
    // p[0, 2] = e^2 / (e + 1 + e^2 + 1) = 0.6103; e^-1 = 0.3679; lse = 2 + ln 1.6386 = 2.4938.
    says(
        &text,
        &[
            "1.0 0.0 2.0 0.0 0.225 0.083 0.610 0.083 sum 1.000",
            "p[0, 2] = e^2 / (e^1 + e^0 + e^2 + e^0) = 0.610",
            "2..4 2.0 0.0 2 0.3679 1.6386 0.3679 0.1353 1.0000 0.1353",
            "mixture / sum = 0.225 0.083 0.610 0.083",
            "lse = max + ln(sum) = 2.4938",
            "so p = NaN",
            "0.7311",
            "f64: largest difference from ours",
            "1281 12.5 MiB 10.0 KiB",
            "16384 2048.0 MiB 128.0 KiB",
            "Next: 05_tiny_transformer",
        ],
    );
}

#[test]
fn lesson_5_attention_learns_and_its_absence_does_not() {
    let text = read(tiny_transformer::lesson);
    says(
        &text,
        &[
            "1. With attention",
            "step 1 ",
            "step 300 ",
            "2. The same without",
            "step 300 ",
            "3. After training:",
        ],
    );
    let loss = |step: &str| numbers(&text, step)[1];
    // ln 10 = 2.30 at the start, whatever the initialisation adds; next to nothing at the end.
    assert!((2.0..3.0).contains(&loss("step     1 ")), "{text}");
    assert!(loss("step   300 ") < 0.1, "{text}");
    // "3." is a number too.
    let [_, right, all, ..] = numbers(&text, "3. After training:")[..] else { panic!("{text}") };
    assert!(all == 2048.0 && right >= 0.97 * all, "{text}");
}

#[test]
fn lesson_6_the_plan_shares_memory() {
    let text = read(memory_plan::lesson);
    says(
        &text,
        &[
            "%4 [1, 256, 192] 192.0 0.0 6.341 12.632 linear %2 0.qkv",
            "= 192 KiB",
            "saved for the backward pass 134.0 0.0",
            "arena, with sharing",
            "A add_rows 64 KiB",
            "dB linear 192 KiB",
            "5. The same numbers",
            "6. More layers",
            "7. Work",
        ],
    );
    let row = |name: &str| numbers(&text, name);
    let (all, arena, bound) = (row("all, if nothing"), row("arena, with"), row("lower bound for"));
    for plan in 0..2 {
        assert!(bound[plan] <= arena[plan] && 2.0 * arena[plan] < all[plan], "{text}");
        assert!(arena[plan] < 1.1 * bound[plan], "the placing is more than 10 % above the bound:\n{text}");
    }
    // 2 * 2 * heads * t^2 * head_dim FLOPs: 4 * 64 * 4096^2 = 4295 MFLOP.
    assert_eq!(numbers(&text, "    4096 ")[2], 4294.97, "{text}");
}

#[test]
fn lesson_7_reconstruction_beats_what_needs_no_learning_of_waves() {
    let text = read(mask_and_reconstruct::lesson);
    says(
        &text,
        &[
            "8 simulated people, 192 windows of 5 s",
            "1. Hidden:",
            "2. Training",
            "epoch 1 mean squared error",
            "epoch 40 mean squared error",
            "3. The person never seen",
            "straight lines",
            "4. What is hidden is hidden",
            "Next: 08_finetune_and_embed",
        ],
    );
    let last = |mark: &str| *numbers(&text, mark).last().unwrap();
    // Windows have unit variance.
    assert!((0.8..1.2).contains(&last("guess 0")), "{text}");
    assert!(last("trained model") < 0.9 * last("guess 0"), "{text}");
    assert!(last("epoch  40") < 0.95 * last("epoch   1"), "{text}");
}

#[test]
fn lesson_8_people_are_apart_in_folds_and_in_pretraining() {
    let text = read(finetune_and_embed::lesson);
    says(
        &text,
        &[
            "1. 9 simulated people, 216 windows of 5 s, half of them aroused",
            "6 others, 144 windows, for pre-training",
            "2. Pre-trained without labels",
            "3. Fine-tuned over 3 folds of people",
            "README.md",
            "config.json",
            "model.safetensors",
            "5. Four windows",
            "aroused",
            "calm",
        ],
    );
}
