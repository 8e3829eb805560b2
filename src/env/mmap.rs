//! STUB: replaced by the env work.
use crate::types::slice::Pinned;
use std::io;

/// Read-only bytes of a whole file: a shared mapping, or heap memory.
#[derive(Debug)]
pub struct Region {
    bytes: Vec<u8>,
}
impl Region {
    /// Heap memory as a region.
    pub fn from_vec(bytes: Vec<u8>) -> Region {
        Region { bytes }
    }
    /// The bytes.
    #[inline]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }
    /// A slice of the region that keeps the mapping alive.
    pub(crate) fn pin(&self, part: &[u8]) -> Pinned {
        Pinned::from_vec(part.to_vec())
    }
    /// Faults the pages of `offset..offset+len` in, so that a device error is an `Err` instead of a SIGBUS.
    pub fn populate(&self, _offset: usize, _len: usize) -> io::Result<()> {
        Ok(())
    }
    /// Starts reading the range from the device, without waiting (a hint).
    pub fn read_ahead(&self, _offset: usize, _len: usize) {}
}

/// Anonymous zeroed memory, huge pages advised.
#[derive(Debug)]
pub(crate) struct AnonymousRegion {
    bytes: Box<[u64]>,
}
impl AnonymousRegion {
    /// Maps at least `len` zeroed bytes (page aligned).
    pub(crate) fn new(len: usize) -> io::Result<AnonymousRegion> {
        Ok(AnonymousRegion { bytes: vec![0u64; len.div_ceil(8)].into() })
    }
    pub(crate) fn len(&self) -> usize {
        self.bytes.len() * 8
    }
    /// Start of the memory, valid for `len()` bytes while `self` lives.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.bytes.as_ptr() as *mut u8
    }
    pub(crate) fn as_slice(&self) -> &[u8] {
        unimplemented!()
    }
    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        unimplemented!()
    }
}
