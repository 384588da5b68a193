"""What a scene and a machine are like, told before anything is run."""
