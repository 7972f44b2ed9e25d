"""What ``import dsr_deploy`` offers: the stages as functions, and what they return."""
