"""Train multi-task temporal shift models on annotated videos."""
