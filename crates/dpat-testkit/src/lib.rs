//! What the tests of the dpat crates share: drop at every await, counted allocations, the tower contract.
