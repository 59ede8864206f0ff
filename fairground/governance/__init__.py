"""How the commons is governed: the audit chain."""
