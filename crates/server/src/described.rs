//! What `docs/reference/openapi` says there is, for the tests that compare it with what there is.

use serde_json::Value;
use std::collections::BTreeSet;
use std::path::Path;

/// Method and path of each operation of a description.
pub(crate) fn described(file: &str) -> BTreeSet<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/reference/openapi");
    let text = std::fs::read_to_string(folder.join(file)).unwrap();
    let description: Value = serde_saphyr::from_str(&text).unwrap();
    let paths = description["paths"].as_object().unwrap();
    let methods = [
        "delete", "get", "head", "options", "patch", "post", "put", "trace",
    ];
    let operations = paths.iter().flat_map(|(path, item)| {
        let item = item.as_object().unwrap();
        let described = item.keys().filter(|key| methods.contains(&key.as_str()));
        described.map(|method| (method.clone(), path.clone()))
    });
    operations.collect()
}
