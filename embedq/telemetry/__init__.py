"""Logs, traces and in-process counters. May be imported by every room above; imports none of them."""
