"""Loopback stand-ins of daytona, e2b, modal and runloop, for learning and tests: our reading of their protocols."""
