package git

// StoreDir is the folder of the mirror's store.
func StoreDir(m *Mirror) string { return m.store.dir }
