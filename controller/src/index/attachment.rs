//! Which routes attach to which listener of which Gateway.
