use super::Snapshot;
use crate::config::Config;
use crate::config::json_schema::Schema;
use hashbrown::HashMap;
use std::sync::Arc;

/// The schemas of bodies, each compiled once: by service, then by the rule's place in its list.
///
/// A text that does not compile is not here, and a rule whose schema is not here refuses.
#[derive(Debug)]
pub(super) struct Schemas(Vec<HashMap<usize, Arc<Schema>>>);

impl Schemas {
    pub(super) fn of(config: &Config) -> Self {
        let mut compiled: HashMap<&str, Arc<Schema>> = HashMap::new();
        let mut by_service = Vec::with_capacity(config.services.len());
        for service in config.services.values() {
            let mut of_service = HashMap::new();
            for (place, rule) in service.operations.iter().enumerate() {
                let Some(file) = &rule.body_schema else {
                    continue;
                };
                let known = compiled.get(&*file.text).cloned();
                if let Some(schema) =
                    known.or_else(|| Schema::compile(&file.text).ok().map(Arc::new))
                {
                    compiled.insert(&file.text, schema.clone());
                    of_service.insert(place, schema);
                }
            }
            by_service.push(of_service);
        }
        Self(by_service)
    }
}

impl Snapshot {
    /// The schema that the rule at this place of a service's list asks of a body. None if it asks
    /// none; a rule that asks one and has none here is one that nobody can follow.
    #[must_use]
    pub fn body_schema(&self, service: &str, place: usize) -> Option<&Arc<Schema>> {
        let at = self.config().services.get_index_of(service)?;
        self.schemas.0.get(at)?.get(&place)
    }
}
