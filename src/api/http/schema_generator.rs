//! The generator of the schemas in the OpenAPI documents.

use schemars::{
    SchemaGenerator,
    generate::{Contract, SchemaSettings},
};

/// Creates a generator whose schemas refer to `components` of the OpenAPI document. `contract`:
/// whether the server writes or reads the documents.
pub(super) fn schema_generator(contract: Contract) -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12();
    settings.definitions_path = "/components/schemas".into();
    settings.contract = contract;
    settings.meta_schema = None;
    settings.into_generator()
}
