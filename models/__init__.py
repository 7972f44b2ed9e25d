"""The network that learns: spiking neurons and layers in torch."""
