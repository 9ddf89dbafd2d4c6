"""What a person sees on a terminal: tables, progress, answers, diagnostics. The HTML report lives in `core.report`."""
