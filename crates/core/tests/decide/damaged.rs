//! Records that were tampered with: refused or read, decided again or not, but never a panic.

use crate::records::record_of;
use crate::records::samples;
use countersign_core::record::Record;
use countersign_core::replay::replay;
use countersign_core::snapshot::State;
use proptest::prelude::*;
use proptest::sample::Index;
use std::sync::LazyLock;

static RECORDS: LazyLock<Vec<(Vec<u8>, State)>> = LazyLock::new(|| {
    let record = |(hop, state)| (record_of(hop, &state), state);
    samples().into_iter().map(record).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_damaged_record_never_panics(which: Index, at: Index, length in 0_usize..20, rubbish: Vec<u8>) {
        let (whole, state) = which.get(&RECORDS);
        let at = at.index(whole.len());
        let after = whole.len().min(at + length);
        let bytes = [&whole[..at], &rubbish, &whole[after..]].concat();
        if let Ok(record) = Record::from_bytes(&bytes) {
            let again = record.to_bytes();
            prop_assert_eq!(Record::from_bytes(&again).unwrap().to_bytes(), again);
            let _ = replay(&record, state, true);
        }
        let _ = Record::from_bytes(&rubbish);
    }
}
