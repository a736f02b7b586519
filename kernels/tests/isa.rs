//! Which instruction sets the other tests really ran on. A machine without AVX-512 passes every test silently on what it
//! has; a build that sets `HEARTLORE_EXPECT_ISA` (say `portable,avx2,avx512`) fails instead of testing less than it claims.

use heartlore_kernels::Isa;

#[test]
#[allow(clippy::print_stdout, reason = "the list is what this test is for")]
fn the_instruction_sets_are_those_expected() {
    let sets = Isa::available();
    let names: Vec<&str> = sets.iter().map(|isa| isa.name()).collect();
    println!("instruction sets tested: {}", names.join(","));
    if let Ok(expected) = std::env::var("HEARTLORE_EXPECT_ISA") {
        let expected: Vec<&str> = expected.split(',').map(str::trim).collect();
        assert_eq!(names, expected, "HEARTLORE_EXPECT_ISA differs from what this CPU and build have");
    }
    assert_eq!(sets.first(), Some(&Isa::PORTABLE));
    assert_eq!(sets.last(), Some(&Isa::best()));
    for isa in sets {
        assert_eq!(Isa::by_name(isa.name()), Some(isa));
        assert!(isa.lanes().is_power_of_two());
    }
    assert_eq!(Isa::by_name("no such set"), None);
}
