// Package render is the pipeline from a tree of files to a fleet.Desired: it reads the
// resource files, fills in variables, and resolves every stack.
//
// Cost follows the change: parsed files and resolved stacks are kept by content, so
// that a commit that changes one stack loads one stack, and one that changes nothing
// loads none. What the last render of a sync did not use is forgotten.
//
// The package reads through compose.Tree and touches no Git, network or database.
package render
