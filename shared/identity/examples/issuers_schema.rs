//! Prints the JSON Schema of `TIDEGATE_ISSUERS`, as `docs/reference/issuers.schema.json` holds it.

fn main() {
    println!("{:#}", tidegate_identity::issuers::schema());
}
