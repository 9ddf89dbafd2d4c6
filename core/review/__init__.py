"""What an audit log answers, asked of records alone; drawing the answers lives in `core.screen` and `core.report`."""
