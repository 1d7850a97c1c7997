"""Pictures of films: I-frame files for seeking, and storyboards, which place thumbnails in sprites."""
