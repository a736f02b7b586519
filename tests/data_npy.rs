//! `.npy` files: against NumPy's own, and against damage.

use std::path::PathBuf;

use heartlore::data::npy;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/oracles/data").join(name)
}

#[test]
fn every_type_and_byte_order_that_numpy_wrote() {
    for name in ["le", "be"].iter().flat_map(|o| ["f4", "f8", "i2", "i4"].map(|t| format!("a_{o}{t}.npy"))) {
        let array = npy::read(&fixture(&name)).unwrap();
        assert_eq!(array.shape, [2, 3], "{name}");
        assert_eq!(array.values, [1.0, -2.0, 3.0, 40.0, 50.0, -32768.0], "{name}");
        assert_eq!(array.trailing_bytes, 0);
    }
    for name in ["version2.npy", "version3.npy"] {
        assert_eq!(npy::read(&fixture(name)).unwrap().values[3], 40.0);
    }
    let one = npy::read(&fixture("one_d.npy")).unwrap();
    assert_eq!(one.shape, [3]);
    assert!(one.values[1].is_nan() && one.values[0] == 0.5 && one.values[2] == -1e300);
}

#[test]
fn what_is_refused_says_why() {
    for (name, word) in [("object.npy", "pickle"), ("three_d.npy", "dimensions")] {
        let error = npy::read(&fixture(name)).unwrap_err();
        assert!(error.to_string().contains(word), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    }
}

#[test]
fn fortran_order_and_every_whole_number_as_numpy_wrote_them() {
    let array = npy::read(&fixture("fortran.npy")).unwrap();
    assert_eq!(
        (&array.shape[..], &array.values[..]),
        (&[2, 3][..], &[1.0, -2.0, 3.0, 40.0, 50.0, -32768.0][..])
    );
    assert_eq!(npy::read(&fixture("uint8.npy")).unwrap().values, [0.0; 4]);
    // A part of it cannot be read by rows: a store is never taken for what it is not.
    let mut file = std::fs::File::open(fixture("fortran.npy")).unwrap();
    let error = npy::read_header_exact(&mut file, &fixture("fortran.npy")).unwrap_err().to_string();
    assert!(error.contains("Fortran"), "{error}");
    let array = |descr: &str, bytes: &[u8]| {
        let size: usize = descr[2..].parse().unwrap();
        let dict =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({},), }}\n", bytes.len() / size);
        let mut file = b"\x93NUMPY\x01\x00".to_vec();
        file.extend((dict.len() as u16).to_le_bytes());
        file.extend(dict.bytes());
        file.extend(bytes);
        npy::parse(&file).map(|a| a.values)
    };
    assert_eq!(array("|i1", &[1, 255]).unwrap(), [1.0, -1.0]);
    assert_eq!(array("|b1", &[1, 0]).unwrap(), [1.0, 0.0]);
    assert_eq!(array("<u2", &65_535u16.to_le_bytes()).unwrap(), [65_535.0]);
    assert_eq!(array(">u4", &u32::MAX.to_be_bytes()).unwrap(), [4_294_967_295.0]);
    assert_eq!(array("<i8", &(-9_007_199_254_740_992i64).to_le_bytes()).unwrap(), [-9_007_199_254_740_992.0]);
    assert_eq!(array(">u8", &12u64.to_be_bytes()).unwrap(), [12.0]);
    assert!(array("<i8", &i64::MAX.to_le_bytes()).unwrap_err().to_string().contains("2^53"));
    // 1, -2, 65504 (the largest), 2^-24 (the least), infinity.
    let halves: Vec<u8> =
        [0x3c00u16, 0xc000, 0x7bff, 1, 0x7c00].iter().flat_map(|h| h.to_le_bytes()).collect();
    assert_eq!(array("<f2", &halves).unwrap(), [1.0, -2.0, 65_504.0, 2f64.powi(-24), f64::INFINITY]);
    for bad in ["<c8", "<U4", "<M8"] {
        let bytes = vec![0u8; 4 * bad[2..].parse::<usize>().unwrap()];
        assert!(array(bad, &bytes).unwrap_err().to_string().contains("are not read"));
    }
}

#[test]
fn our_bytes_are_numpys_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let values = [1.0f32, -2.0, 3.0, 40.0, 50.0, -32768.0];
    let whole = dir.path().join("whole.npy");
    npy::write_f32(&whole, &[2, 3], &values).unwrap();
    let streamed = dir.path().join("streamed.npy");
    let mut w = npy::Writer::create(&streamed, 3).unwrap();
    w.write_row(&values[..3]).unwrap();
    assert!(w.write_row(&values[..2]).is_err());
    w.write_row(&values[3..]).unwrap();
    assert_eq!(w.finish().unwrap(), 2);
    let numpy = std::fs::read(fixture("a_lef4.npy")).unwrap();
    assert_eq!(std::fs::read(&whole).unwrap(), numpy);
    assert_eq!(std::fs::read(&streamed).unwrap(), numpy);
    npy::write_f64(&whole, &[3], &[0.5, f64::NAN, -1e300]).unwrap();
    assert_eq!(std::fs::read(&whole).unwrap(), std::fs::read(fixture("one_d.npy")).unwrap());
    assert!(npy::write_f32(&whole, &[2, 2], &values).is_err());
}

#[test]
fn sizes_that_overflow_or_lie_are_refused_before_anything_is_allocated() {
    for shape in ["(18446744073709551615, 2)", "(4611686018427387904,)", "(1000000000000,)", "(7,)"] {
        let dict = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}\n");
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((dict.len() as u16).to_le_bytes());
        bytes.extend(dict.as_bytes());
        bytes.extend([0u8; 24]);
        let error = npy::parse(&bytes).unwrap_err();
        assert!(error.to_string().contains("does not fit"), "{shape}: {error}");
    }
    let mut long = b"\x93NUMPY\x02\x00".to_vec();
    long.extend(u32::MAX.to_le_bytes());
    assert!(npy::parse(&long).unwrap_err().to_string().contains("claims"));
}

#[test]
fn truncation_anywhere_is_an_error() {
    let whole = std::fs::read(fixture("a_lef4.npy")).unwrap();
    for n in 0..whole.len() {
        assert!(npy::parse(&whole[..n]).is_err(), "cut at {n}");
    }
}
