//! Server and gateway as two processes, started and killed by the command line: joining, losing
//! and regaining each other, and what either refuses of the other.

#![cfg(test)]
mod damage;
mod full;
mod joining;
mod killing;
mod pair;
mod partners;
mod rollback;
