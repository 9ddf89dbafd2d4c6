"""Google's services beside Leonardo: Cloud Logging, Cloud Run, the metadata server. Tokens live in `core.leonardo`."""
