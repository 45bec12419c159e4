"""Pure tensor functions without variables: masks, losses, schedules, random numbers."""
