//! The ledger and budgets, against a model that adds up.

extern crate std;
