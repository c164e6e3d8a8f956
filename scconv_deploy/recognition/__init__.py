"""Find candidate SRU, CRU and SCConv modules by structure, propose specifications, certify one by numbers."""
