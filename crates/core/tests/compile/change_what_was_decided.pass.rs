use countersign_core::pillars::audit::Admission;

fn path(admission: &Admission) -> &str {
    &admission.hop().operation.object
}

fn main() {
    let _ = path;
}
