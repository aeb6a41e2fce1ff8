package uia

// Flow is the auth types of one flow, in the order in which a client completes
// them.
type Flow []string
