import torch, torch.nn.functional as F
def knn_accuracy(train, tl, q, ql, *, ks, temperature=None, ties="nearest", seed=0):
    s=F.normalize(q,dim=1)@F.normalize(train,dim=1).T
    i=s.topk(max(ks),dim=1).indices
    return {k: (tl[i[:,:k]].mode(dim=1).values==ql).float().mean().item() for k in ks}
def instance_accuracy(a,b): return 0.0
