"""What travels: typed messages (`messages`), commands (`commands`), their bytes (`codec`) and their bounds (`limits`)."""
