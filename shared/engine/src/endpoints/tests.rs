//! Endpoints as the gate keeps them.
