"""Cloud Run: this process as a task of an execution, and the executions of a job; deploying it lives in deploy/."""
