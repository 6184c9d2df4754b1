//! LevelDB.
