"""Cloud Logging: the only rooms that know google-cloud-logging; what a record says is none of their business."""
