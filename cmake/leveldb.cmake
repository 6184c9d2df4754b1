# LevelDB 1.22 probes for Clang's -Wthread-safety and believes that GCC has it; the build then fails.
set(HAVE_CLANG_THREAD_SAFETY OFF CACHE BOOL "" FORCE)
