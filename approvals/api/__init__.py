"""The JSON API of approvals."""
