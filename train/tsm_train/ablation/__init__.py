"""The paper's table for one's own data: members trained, scored, fused, and written as a table."""
