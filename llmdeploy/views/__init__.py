"""Values of the other layers as text: lines for a person, JSON for a program. Nothing here looks or changes anything."""
