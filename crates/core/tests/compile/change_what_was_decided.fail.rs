use countersign_core::pillars::audit::Admission;

fn path(admission: &mut Admission) -> &mut String {
    &mut admission.hop().operation.object
}

fn main() {
    let _ = path;
}
