package gateway

// Remembered returns how many access tokens a remembers.
func Remembered(a *Admins) int { return len(a.known) }
