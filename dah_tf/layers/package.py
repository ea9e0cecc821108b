"""The name that saved models know our classes by."""

PACKAGE = "dah_tf"
