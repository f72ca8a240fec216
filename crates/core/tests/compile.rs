//! Skipping a pillar or forging a proof does not compile; the same code without that one step
//! does.

#[test]
fn the_proof_chain_holds_at_compile_time() {
    let cases = trybuild::TestCases::new();
    cases.pass("tests/compile/*.pass.rs");
    cases.compile_fail("tests/compile/*.fail.rs");
}
