"""Pure rules: no clock, no network, no database. May be imported by every room above."""
