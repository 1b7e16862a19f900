import torch
def embed(encoder, batches, device):
    training=encoder.training; encoder.eval()
    with torch.inference_mode(): out=[encoder(b.to(device)).float().cpu() for b in batches]
    encoder.train(training); return torch.cat(out)
