//! How many branch interfaces an EC2 instance type has.

/// `family size=number ...` in each line, sorted; the head of the file says how it was made.
const TABLE: &str = include_str!("branch_interfaces.txt");

/// Branch interfaces of an instance type; 0: it has no trunk interface, so no security groups for pods. None: the table
/// does not have the type, which may be newer.
pub fn branch_interfaces(instance_type: &str) -> Option<u64> {
    let (family, size) = instance_type.split_once('.')?;
    let line = TABLE.lines().find(|line| line.split(' ').next() == Some(family))?;
    let sizes = line.split(' ').skip(1).filter_map(|entry| entry.split_once('='));
    sizes.filter(|(name, _)| *name == size).find_map(|(_, number)| number.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_of_the_table() {
        let known =
            [("m5.large", 9), ("m5.xlarge", 18), ("m5.2xlarge", 38), ("m5.4xlarge", 54), ("t3.large", 0)];
        for (name, number) in known {
            assert_eq!(branch_interfaces(name), Some(number), "{name}");
        }
        assert_eq!((branch_interfaces("i3.large"), branch_interfaces("i3.metal")), (Some(0), Some(120)));
        for unknown in ["m99.large", "m5.giant", "m5", "", "#.large"] {
            assert_eq!(branch_interfaces(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_whole() {
        let lines: Vec<&str> = TABLE.lines().filter(|line| !line.starts_with('#')).collect();
        let families: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').next()).collect();
        assert!(families.is_sorted_by(|a, b| a < b), "{families:?}");
        let entries: Vec<(&str, &str)> = lines
            .iter()
            .flat_map(|line| line.split(' ').skip(1))
            .map(|entry| entry.split_once('=').unwrap())
            .collect();
        assert_eq!(entries.len(), 1_423);
        let with_trunk = entries.iter().filter(|(_, number)| number.parse::<u64>().unwrap() > 0);
        assert_eq!(with_trunk.count(), 1_320);
        assert!(entries.iter().all(|(_, number)| number.parse::<u64>().unwrap() <= 120));
    }
}
